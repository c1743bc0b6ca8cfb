"""Contractions that answers to VQA v2 are often typed without an apostrophe in."""

_WHOLE = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've
"""
# Left out: those that are another word without it (it's, we'll, we're, she'd), and I'm and its kin, which the official
# table has in capitals only, so that lower-cased answers never meet them.


def _without_one_apostrophe(word: str) -> list[str]:
    return [word[:i] + word[i + 1 :] for i, letter in enumerate(word) if letter == "'"]


CONTRACTIONS = {typed: word for word in _WHOLE.split() for typed in _without_one_apostrophe(word)}
"""By what is typed where one apostrophe is missing: "dont" -> "don't", "couldnt've" -> "couldn't've"."""
