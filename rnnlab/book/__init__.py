"""What a page of the book imports, and how pages are run; nothing else knows of it."""
