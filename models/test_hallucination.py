"""python3 -m unittest discover -s models"""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from hallucination import Lexicon, people, strangers

LEXICON = Lexicon()


class Nouns(unittest.TestCase):
    def check(self, caption, *nouns):
        self.assertEqual(LEXICON.nouns(caption), list(nouns))

    def test_plurals_and_irregulars(self):
        self.check("Two women and three children with knives", "woman", "child", "knife")
        self.check("Cherries, benches, buses and a pair of scissors", "cherry", "bench", "bus", "scissors")

    def test_each_noun_once(self):
        self.check("A black dog and a white dog play with each other", "dog")

    def test_expressions_come_before_their_parts(self):
        self.check("A man eats a hot dog", "man", "hot_dog")
        self.check("A girl in sun glasses", "girl", "sunglasses")
        self.check("A firetruck in a T-shirt factory", "fire_truck", "t_shirt", "factory")

    def test_verbs_and_adjectives_are_not_nouns(self):
        self.check("A man bikes to the park and watches", "man", "park")
        self.check("A woman in an orange shirt and a light blue hat", "woman", "shirt", "hat")
        self.check("A man in a jacket watches", "man", "jacket")
        self.check("A boy on a bike holds a watch", "boy", "bike", "watch")
        self.check("An orange", "orange")

    def test_idioms(self):
        self.check("A boy smiles at the camera by a body of water", "boy", "water")
        self.check("A girl poses for a photo", "girl")
        self.check("People walk past a fountain", "people", "fountain")
        self.check("A boy holds a camera", "boy", "camera")


class Support(unittest.TestCase):
    def check(self, caption, reference, *unsupported):
        self.assertEqual(LEXICON.unsupported(caption, [reference]), list(unsupported))

    def test_synonyms_and_more_specific_words(self):
        self.check("A guy with a puppy", "A man walks his dog")
        self.check("A person with an animal", "Two girls and a poodle")
        self.check("A vehicle on a street", "A taxi on the road")

    def test_more_general_words_do_not_support(self):
        self.check("A poodle", "A dog", "poodle")
        self.check("A dog", "An animal", "dog")

    def test_unless_they_do_not_gainsay(self):
        self.check("A man", "A person")
        self.check("A boy", "A child")
        self.check("A boy", "A girl", "boy")
        self.check("A man", "A woman", "man")

    def test_what_implies_the_thing(self):
        self.check("A person with a surfboard in the water", "A surfer")
        self.check("A woman on a bike", "A woman bikes")

    def test_an_expression_hides_its_last_word(self):
        self.check("A dog", "A hot dog on a plate", "dog")
        self.check("A bear", "A girl holds a teddy bear", "bear")
        self.check("A truck", "A fire truck")

    def test_unknown_words_are_not_counted(self):
        self.check("A frobnicator", "A dog")


class Judgement(unittest.TestCase):
    def test_counts(self):
        found = LEXICON.judge([("A dog with a ball", ["A dog"]), ("A cat", ["A kitten"])])
        self.assertEqual((found.captions, found.with_unsupported, found.nouns, found.unsupported), (2, 1, 3, 1))
        self.assertAlmostEqual(found.share, 1 / 3)

    def test_neighbours_support_in_one_of_the_two_shares(self):
        nearest = [{"caption": "A cat"}, {"caption": "A ball"}]
        prediction = {"a.jpg": {"caption": "A dog with a ball", "neighbours": nearest}}
        references = {"a.jpg": ["A dog"]}
        loose, strict = LEXICON.judge_predictions(references, prediction)
        self.assertEqual((loose.unsupported, strict.unsupported), (0, 1))
        self.assertEqual(LEXICON.judge_predictions(references, prediction, k=1)[0].unsupported, 1)

    def test_people_and_strangers(self):
        references = {"a": ["1", "2", "3"], "b": ["4", "5", "6"]}
        self.assertEqual(next(people(references)), ("1", ["2", "3"]))
        self.assertEqual(next(strangers(references)), ("1", ["5", "6"]))


if __name__ == "__main__":
    unittest.main()
