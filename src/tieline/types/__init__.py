"""The words of Tieline as data. Imports nothing of ours; everything else imports it."""
