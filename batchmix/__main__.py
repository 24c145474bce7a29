"""`python -m batchmix`."""

from batchmix.cli import main

if __name__ == "__main__":
    main()
