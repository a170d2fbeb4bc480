from pathlib import Path
from executor.core.policy import *
def packaged_rules(): return Path(__file__).resolve().parents[2]/"rules"
def load_policy(p): return Policy({"script":Agent("script",("sh","-c","{run}"),deterministic=True),"patch":Agent("patch",builtin="patch",deterministic=True)},{},Limits())
