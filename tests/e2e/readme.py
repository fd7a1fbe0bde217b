"""The commands of the README."""

import re

from tests.e2e.main_job import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = [block.strip() for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)]
CURLS = [curl for block in BLOCKS for curl in re.split(r"\n(?=curl )", block) if curl.startswith("curl ")]
