"""The read model: facts about every issue, and what follows from them."""
