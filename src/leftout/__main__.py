"""`python -m leftout`: the command line, where its script is not on the path."""

from leftout.cli.main import main

if __name__ == "__main__":
    main()
