"""A team's own repository: where it is, and where the parts of the kit are that it is deployed with.

Both the CDK app and the command line ask here, and nothing that is deployed does. Standard library only.
"""

from turnkeeper_project.kit import KitSource, kit_source, kit_version
from turnkeeper_project.place import NoProject, Project, find_project

__all__ = ["KitSource", "NoProject", "Project", "find_project", "kit_source", "kit_version"]
