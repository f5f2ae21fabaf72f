"""The oldest version that settings.ini allows of each package the book needs, as constraints for pip: `python docs/floors.py > floors.txt`."""
import re
from configparser import ConfigParser
from pathlib import Path

ini = ConfigParser(delimiters=["="])
ini.read(Path(__file__).resolve().parent.parent / "settings.ini", encoding="utf-8")
for need in ini["DEFAULT"]["requirements"].split():
    if found := re.match(r"([\w.-]+).*?>=([\d.]+)", need): print(f"{found[1]}=={found[2]}")
