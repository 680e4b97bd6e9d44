"""The labelling app: a FastAPI server with Gradio pages, opened by ``gptsim label``."""
