"""A labelling campaign: who is asked what, and what becomes of the answers.

``schema`` says what it is made of, ``settings`` how it runs. ``tasks`` are put into queues, ``leasing`` gives them out,
``answers`` says what an answer means, ``submitting`` stores it; ``marks`` are flags and break-points. ``gold`` checks people,
``overview`` counts, ``withdrawal`` forgets somebody. ``campaign`` is the door to all of it.
"""

from align.preferences.campaign.campaign import Campaign as Campaign
from align.preferences.campaign.schema import Answer as Answer
from align.preferences.campaign.schema import AxisSetting as AxisSetting
from align.preferences.campaign.schema import Break as Break
from align.preferences.campaign.schema import FlagRequest as FlagRequest
from align.preferences.campaign.schema import Guideline as Guideline
from align.preferences.campaign.schema import Lease as Lease
from align.preferences.campaign.schema import Receipt as Receipt
from align.preferences.campaign.schema import Settings as Settings
from align.preferences.campaign.schema import Submission as Submission
from align.preferences.campaign.schema import Task as Task
from align.preferences.campaign.schema import parse as parse
