"""What a kit stands on: its store, its queue, its secrets, and who is told. One module for each platform."""
