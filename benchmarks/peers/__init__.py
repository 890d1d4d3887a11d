"""Other methods, written from their papers over the same networks; `benchmarks/peers.py` runs them."""
