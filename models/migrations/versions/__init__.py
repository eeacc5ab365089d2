"""One module per revision, applied in order; forward only: to go back, restore a backup."""
