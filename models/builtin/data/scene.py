"""What an open passage consists of: sentences, the questions they answer, fields for JSON."""

from dataclasses import dataclass, field


@dataclass
class Scene:
    """A small text with everything that can be asked of it.

    `said` holds `(questions, answer)`, `unsaid` questions without an answer in
    the text, `fields` pairs of possible key names and a value.
    """

    sentences: list = field(default_factory=list)
    said: list = field(default_factory=list)
    unsaid: list = field(default_factory=list)
    fields: list = field(default_factory=list)

    def know(self, questions, answer, keys=None, value=None):
        """Records a fact that the text states."""
        self.said.append((questions, answer))
        if keys:
            self.fields.append((keys, value))
