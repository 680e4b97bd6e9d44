"""``python -m ui.cli`` does what ``gptsim`` does."""

from ui.cli.main import main

if __name__ == "__main__":
    main()
