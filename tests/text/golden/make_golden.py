"""Makes wer.json: counts and alignments of PyPI's jiwer (4.0.0) for fixed and random pairs.

    pip install jiwer==4.0.0 && python make_golden.py > wer.json

jiwer refuses an empty reference for wer() but counts it in process_words(), which is what is kept here.
"""

import json
import random

import jiwer

FIXED = [
    ("", ""),
    ("", "A B"),
    ("A B", ""),
    ("SEVEN OH FOUR", "SEVEN OH FOUR"),
    ("SEVEN OH FOUR", "SEVEN FOUR FOUR"),
    ("A B", "B C"),
    ("A B C D", "B C D E"),
    ("A A A", "A A"),
    ("A A", "A A A"),
    ("YES", "NO YES NO YES"),
    ("RUBOUT G M E F THREE NINE", "RUBOUT T G M F THREE THREE NINE"),
    ("straße über zwölf", "strasse uber zwölf"),
    ("привет мир", "привед мир мир"),
    ("今天 天气 好", "今天 天 好"),
    ("naïve café 👍", "naive cafe 👍🏽"),
    ("  spaces   in\tbetween ", "spaces in  between"),
]


def random_pairs(count, seed):
    generator = random.Random(seed)
    for _ in range(count):
        words = "A B C D E".split()[: generator.randint(2, 5)]
        reference = [generator.choice(words) for _ in range(generator.randint(0, 14))]
        hypothesis = []
        for word in reference:
            draw = generator.random()
            if draw < 0.2:
                continue
            hypothesis.append(generator.choice(words) if draw < 0.45 else word)
            if draw > 0.85:
                hypothesis.append(generator.choice(words))
        yield " ".join(reference), " ".join(hypothesis)


def counts(output):
    return {
        "correct": output.hits,
        "substitutions": output.substitutions,
        "deletions": output.deletions,
        "insertions": output.insertions,
    }


def main():
    # Runs of white space are one and none stand at the ends, as earshot splits.
    one_space = jiwer.SubstituteRegexes({r"\s+": " "})
    words = jiwer.Compose([one_space, jiwer.Strip(), jiwer.ReduceToListOfListOfWords()])
    characters = jiwer.Compose([one_space, jiwer.Strip(), jiwer.ReduceToListOfListOfChars()])
    cases = []
    for reference, hypothesis in FIXED + list(random_pairs(300, 7)):
        by_word = jiwer.process_words(reference, hypothesis, words, words)
        by_character = jiwer.process_characters(reference, hypothesis, characters, characters)
        cases.append(
            {
                "reference": reference,
                "hypothesis": hypothesis,
                "words": counts(by_word),
                "characters": counts(by_character),
            }
        )
    print("[\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]")


if __name__ == "__main__":
    main()
