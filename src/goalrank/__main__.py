"""`python -m goalrank`, and `torchrun -m goalrank`."""

from goalrank.cli import main

if __name__ == "__main__":
    main()
