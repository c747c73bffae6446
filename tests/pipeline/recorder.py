"""Who is told how a test's run goes on."""


class Recorder:
    """A reporter that remembers what became of each stage, and how training went on."""

    def __init__(self):
        self.stages, self.texts, self.notes = {}, [], []

    def stage(self, name, status):
        self.stages[name] = status

    def progress(self, done, text):
        self.texts.append(text)

    def note(self, text):
        self.notes.append(text)

    @property
    def redone(self):
        return {name for name, status in self.stages.items() if status == "done"}
