"""How good the judge is: bad changes that land, and good ones that are stopped."""
