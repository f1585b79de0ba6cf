"""What Vercel loads: the kit's API as one function (docs/shapes.md). `vercel.json` sends every call here."""

from server.vercel import application

#: `maxDuration` of `vercel.json`.
MAX_SECONDS = 300

app = application(max_seconds=MAX_SECONDS)
