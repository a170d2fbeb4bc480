"""Special clones: missing objects, shallow history, submodules, LFS contents, ownership."""
