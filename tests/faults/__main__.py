"""python -m tests.faults [N_SEEDS [N_HEALTHY]]: plants every kind of fault and prints what the diagnosis made of it."""
import sys

from .table import full_table

if __name__ == "__main__":
    full_table(*(int(a) for a in sys.argv[1:3]))
