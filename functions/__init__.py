"""What runs in Lambda."""

# Before anything else is imported: how that is done is what it says.
from functions import starting as starting
