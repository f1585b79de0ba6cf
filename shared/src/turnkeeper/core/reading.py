"""What a stream token says: its holder may read one session, as the user whom it was given to, and nothing else."""

from turnkeeper.core.session import Frozen


class Reading(Frozen):
    tenant_id: str
    user_id: str
    #: Of whoever asked for the token: it decides what of the session is shown.
    role: str
    session_id: str
