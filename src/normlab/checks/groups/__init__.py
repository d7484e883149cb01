"""Groups that a person knows: whether the splits separate them."""
