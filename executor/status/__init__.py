"""The read model: facts about every issue, and the status derived from them."""
