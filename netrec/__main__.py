"""`python -m netrec` is `netrec`."""

from netrec.cli import main

if __name__ == "__main__":
    main()
