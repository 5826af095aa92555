"""The `replay` example of temper-search, spoken to by JSON lines."""

import json
import subprocess


class Replay:
    """One process of it; a context that ends it."""

    def __init__(self, program):
        self.child = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.stdin.close()
        if self.child.wait() != 0:
            raise RuntimeError("replay failed: see its standard error")

    def ask(self, **request):
        """Sends one request, gives its answer."""
        self.child.stdin.write(json.dumps(request) + "\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())
