"""Resource pools: what is empty is said, too."""

from .api import ApiTest


class Pools(ApiTest):
    async def comment(self) -> str:
        return (await self.call("GET", "/pools", poolid="dev"))[0].get("comment", "")

    async def test_an_empty_comment_takes_it_away(self):
        await self.call("POST", "/pools", poolid="dev", comment="text")
        self.assertEqual(await self.comment(), "text")
        await self.call("PUT", "/pools", poolid="dev")
        self.assertEqual(await self.comment(), "text")
        await self.call("PUT", "/pools", poolid="dev", comment="")
        self.assertEqual(await self.comment(), "")

    async def test_a_pool_with_another_below_it_stays(self):
        await self.call("POST", "/pools", poolid="dev")
        await self.call("POST", "/pools", poolid="dev/web")
        status, body = await self.raw("DELETE", "/pools", params={"poolid": "dev"})
        self.assertEqual(status, 500)
        self.assertIn("pool 'dev' is not empty (contains pool 'dev/web')", body["message"])
