"""`python -m leftout`: the command line, where its script is not on the path."""

from leftout.cli.start import start

if __name__ == "__main__":
    start()
