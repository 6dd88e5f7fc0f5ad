"""`limbeck inspect`: pairs and weak prompts in the terminal, two answers side by side, what differs marked.

Whatever a file says is shown as text: markup, escape sequences and unseen characters in it do nothing. Start reading
at: `rows.shown_rows`, then `view.view`; `session` is about keys and `terminal` about the device.
"""
