"""The lab's network, while machines come and go. Needs root."""

import asyncio
import os
import pathlib
import unittest

from lab.network import Network
from lab.run import run
from lab.settings import BRIDGES, Settings


@unittest.skipUnless(os.geteuid() == 0, "needs root")
class Networks(unittest.TestCase):
    def setUp(self):
        self.network = Network(Settings(pathlib.Path("/nonexistent"), "x", "nspawn", 199))

    def test_a_killed_labs_network_is_cleared_by_the_next(self):
        async def twice() -> list[str]:
            await self.network.up()
            await self.network.up()
            await self.network.down()
            return await self.network.leftovers()

        self.assertEqual(asyncio.run(twice()), [])

    def test_a_bridge_keeps_its_address_whoever_is_plugged(self):
        async def address() -> str:
            file = f"/sys/class/net/{BRIDGES[0]}/address"
            return (await run("ip", "netns", "exec", self.network.namespace, "cat", file)).strip()

        async def plugged() -> list[str]:
            await self.network.up()
            seen = [await address()]
            for index in range(4):
                await self.network.plug_container(100, index, f"bc:24:11:00:00:{index:02x}", BRIDGES[0])
                seen.append(await address())
            await self.network.unplug_container(100)
            seen.append(await address())
            await self.network.down()
            return seen

        self.assertEqual(set(asyncio.run(plugged())), {"02:00:00:00:00:01"})
