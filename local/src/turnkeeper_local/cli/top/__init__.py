"""`turnkeeper top`: what runs now, and what it costs."""
