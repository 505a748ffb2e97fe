"""The gateway as a process: ``door`` serves the data plane, ``control`` everything else, ``serve`` runs both."""
