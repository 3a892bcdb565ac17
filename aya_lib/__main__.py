"""``python -m aya_lib``: the console script ``aya``, where it is not installed on the path."""

from aya_lib.cli.main import main

if __name__ == "__main__":
    main()
