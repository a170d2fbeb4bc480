import difflib
def did_you_mean(name, known):
    m=difflib.get_close_matches(name,known,1); return f'; did you mean "{m[0]}"?' if m else ""
