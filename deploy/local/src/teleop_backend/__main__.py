"""`python -m teleop_backend`: as the console script."""

from teleop_backend.entry import main

if __name__ == "__main__":
    main()
