"""Empty databases for the checks beside Optuna: a file of SQLite, a schema of a PostgreSQL server of our own or of a given one."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import psycopg


class Place:
    """One empty database: its address for Temper and for SQLAlchemy."""

    def __init__(self, kind, temper, sqlalchemy):
        self.kind, self.temper, self.sqlalchemy = kind, temper, sqlalchemy


def sqlite(folder, name):
    """A file that is not there yet."""
    path = pathlib.Path(folder).resolve() / f"{name}.db"
    return Place("SQLite", str(path), f"sqlite:///{path}")


def postgres(server, name):
    """A schema of the server at this URL."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")
        connection.execute(f"CREATE SCHEMA {name}")
    url = f"{server}{'&' if '?' in server else '?'}options=-csearch_path%3D{name}"
    return Place("PostgreSQL", url, url.replace("postgres://", "postgresql://").replace("postgresql://", "postgresql+psycopg://"))


@contextlib.contextmanager
def postgres_server(given):
    """The URL of a server: the given one, or one of our own that ends with the block, by this machine's `initdb`."""
    if given:
        yield given
        return
    debian = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))
    path = [pathlib.Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    programs = next((folder for folder in [*reversed(debian), *path] if (folder / "initdb").is_file()), None)
    if programs is None:
        sys.exit("no PostgreSQL on this machine; hint: install it (Debian: apt-get install postgresql), or give --postgres URL")
    folder = tempfile.mkdtemp(prefix="temper-postgres-")
    # The server refuses to run as root.
    before = []
    if os.getuid() == 0:
        shutil.chown(folder, "postgres")
        before = ["runuser", "-u", "postgres", "--"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = f"{folder}/data"
    make = [*before, programs / "initdb", "-D", data, "-U", "temper", "--auth=trust", "--encoding=UTF8"]
    subprocess.run(make, check=True, cwd="/", stdout=subprocess.DEVNULL)
    # As it comes, but for where it listens: it waits for the disk with every commit.
    settings = [f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200"]
    words = [word for setting in settings for word in ("-c", setting)]
    with open(f"{folder}.log", "w") as log:
        server = subprocess.Popen([*before, programs / "postgres", "-D", data, *words], cwd="/", stdout=log, stderr=log)
    url = f"postgresql://temper@127.0.0.1:{port}/postgres"
    try:
        for _ in range(600):
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(url).close()
                break
            time.sleep(0.1)
        yield url
    finally:
        subprocess.run([*before, programs / "pg_ctl", "-D", data, "-m", "fast", "stop"], cwd="/", stdout=subprocess.DEVNULL)
        server.wait()
        shutil.rmtree(folder)
        os.remove(f"{folder}.log")
