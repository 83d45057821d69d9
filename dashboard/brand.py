"""The product's mark: a stream that turns from calm to mood, drawn so that it reads on light and dark."""

from __future__ import annotations

from typing import Final

_WAVES: Final = (
    '<path d="M3 20c5 0 5-12 10-12s5 16 10 16 5-10 6-10" fill="none" stroke="#12938c" stroke-width="4" '
    'stroke-linecap="round"/><circle cx="29" cy="14" r="3.4" fill="#d9572b"/>'
)
MARK: Final = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 34 32" width="34" height="32">{_WAVES}</svg>'
WORDMARK: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 178 32" width="178" height="32">'
    f'{_WAVES}<text x="42" y="23" font-family="Georgia, \'Liberation Serif\', serif" font-size="22" textLength="132" '
    'font-weight="600" fill="#12938c">Moodstream</text></svg>'
)
