from __future__ import annotations
import json, os, errno
from executor.errors import StateBrokenError, StateFullError
def fsync_dir(path):
    fd=os.open(path,os.O_RDONLY)
    try: os.fsync(fd)
    finally: os.close(fd)
def write_atomic(path, data, *, durable=True, mode=0o600):
    tmp=path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        fd=os.open(tmp,os.O_WRONLY|os.O_CREAT|os.O_EXCL|os.O_CLOEXEC,mode)
        try:
            os.write(fd,data)
            if durable: os.fsync(fd)
        finally: os.close(fd)
        os.replace(tmp,path)
        if durable: fsync_dir(path.parent)
    except OSError as e:
        raise StateBrokenError(f"{path}: {e}") from e
def read_json(path):
    try: return json.loads(path.read_bytes())
    except (OSError,ValueError): return None
def write_json(path,value,*,durable=True): write_atomic(path,json.dumps(value).encode(),durable=durable)
