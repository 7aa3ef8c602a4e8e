"""python -m procstop."""

from procstop.cli import main

if __name__ == "__main__":
    main()
