"""The help of an interactive session."""

from typing import Final

ALL: Final = '''Available Commands:
  /set            Set session variables
  /show           Show model information
  /load <model>   Go on with another model
  /save <model>   Save this session as a model
  /list [prefix]  List models
  /clear          Forget the conversation so far
  /bye            Exit
  /?, /help       Help for a command
  /? shortcuts    Help for keyboard shortcuts

Use """ to begin a message of many lines, and to end it.

'''

SET: Final = """Available Commands:
  /set parameter ...     Set a parameter
  /set system <string>   Set system message
  /set history           Keep a history of prompts
  /set nohistory         Keep no history of prompts
  /set wordwrap          Keep words whole at line ends
  /set nowordwrap        Leave long lines as they are
  /set format json       Ask for answers in JSON
  /set noformat          Ask for answers in no special form
  /set verbose           Show timings after each answer
  /set quiet             Show no timings
  /set think [level]     Have the model think first: high, medium, low or max
  /set nothink           Have it answer at once

Parameters, each as /set parameter <name> <value>:
  seed <int>               Random number seed
  num_predict <int>        Most tokens of an answer
  top_k <int>              Choose among the k likeliest tokens
  top_p <float>            Choose among the likeliest tokens of this mass
  min_p <float>            Drop tokens this much less likely than the likeliest
  num_ctx <int>            Context length
  temperature <float>      0 takes the likeliest token, more is more varied
  repeat_penalty <float>   How strongly repetition is punished
  repeat_last_n <int>      How far back repetition is looked for
  num_gpu <int>            Layers on a GPU
  stop <text> ...          Texts that end an answer
  samplers <name> ...      Samplers in order; 'corral samplers' lists them
and all others that 'corral options' lists.

"""

SHOW: Final = """Available Commands:
  /show info         Show details for this model
  /show license      Show model license
  /show modelfile    Show Modelfile for this model
  /show parameters   Show parameters for this model
  /show system       Show system message
  /show template     Show prompt template

"""

SHORTCUTS: Final = """Available keyboard shortcuts:
  Ctrl + a            Move to the beginning of the line (Home)
  Ctrl + e            Move to the end of the line (End)
   Alt + b            Move back (left) one word
   Alt + f            Move forward (right) one word
  Ctrl + k            Delete the text after the cursor
  Ctrl + u            Delete the text before the cursor
  Ctrl + w            Delete the word before the cursor

  Ctrl + l            Clear the screen
  Ctrl + g            Write the prompt in an editor
  Ctrl + c            Stop the answer, or empty the line
  Ctrl + d            Exit (/bye)

"""

TOPICS: Final = {"set": SET, "show": SHOW, "shortcut": SHORTCUTS, "shortcuts": SHORTCUTS}
