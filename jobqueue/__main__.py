"""`python -m jobqueue` runs the command `jobqueue`."""

from jobqueue.cli import main

if __name__ == "__main__":
    main(prog_name="jobqueue")
