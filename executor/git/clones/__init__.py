"""What a clone of any kind lacks or needs: objects, where history ends, submodules, LFS contents, an owner."""
