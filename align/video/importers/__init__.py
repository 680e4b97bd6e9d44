"""Readers of other people's clips, one format a module; ``align.video.importing`` chooses among them."""
