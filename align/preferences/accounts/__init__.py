"""Who may sign in, and as what: ``accounts`` over ``rows`` of the database, ``passwords`` and a ``throttle`` on guessing."""

from align.preferences.accounts.accounts import INVITATION_S as INVITATION_S
from align.preferences.accounts.accounts import Accounts as Accounts
from align.preferences.accounts.rows import SESSION_S as SESSION_S
from align.preferences.accounts.rows import Account as Account
from align.preferences.accounts.rows import Invitation as Invitation
from align.preferences.accounts.rows import Role as Role
from align.preferences.accounts.rows import clean_name as clean_name
