"""What a comparison found, as pictures and files, and two of them beside each other."""
