"""prices: what requests cost, what an account has left, and the cap on a run."""
