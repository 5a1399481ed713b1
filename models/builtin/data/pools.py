"""Word lists. Names and places are mixed with invented ones (see `draw`)."""


def words(text):
    """The words of a text."""
    return text.split()


def phrases(text):
    """The parts of a list between commas."""
    return [p.strip() for p in text.split(",")]


WOMEN = words("""
Ada Aisha Alice Amara Ana Andrea Anika Anna Astrid Ava Beatriz Bianca Camila Carla Cecilia Chiara Clara Cleo Dalia
Daria Dina Dora Elena Elif Elin Ella Emma Erika Esther Eva Fatima Fiona Flora Freya Gina Grace Greta Hana Hannah Heidi
Helen Ida Ines Ingrid Irene Iris Ivy Jana Jane Joy Julia Kate Keiko Kim Klara Lara Laura Lea Leila Lena Lina Lisa
Lucia Lucy Luna Mara Maria Marie Marta Mary Maya Mei Mia Mila Mina Mira Mona Nadia Nora Nina Oda Olga Paula Petra Pia
Priya Rania Rita Rosa Ruth Sara Selma Sofia Sonia Tara Uma Vera Viola Wanda Yara Yuki Zara Zoe
""")
MEN = words("""
Adam Alan Amir Anders Anton Arjun Arthur Ben Boris Bruno Carl Chen Dan Daniel David Diego Edgar Eli Emil Eric Farid
Felix Frank Gabriel Gustav Harry Hassan Hector Henry Hiro Hugo Igor Isaac Ivan Jack Jacob James Jan Jin Joel John
Jonas Jose Josef Juan Jun Karim Karl Kenji Kofi Lars Leo Liam Linus Lucas Luis Marco Mark Martin Max Miguel Noah Nils
Oliver Omar Oscar Otto Pablo Paul Pedro Peter Quentin Rahul Raj Robert Sam Samir Stefan Sven Tariq Theo Thomas Tim Tom
Tomas Victor Walter Wei Yusuf
""")
FIRST_NAMES = WOMEN + MEN
SHE = frozenset(WOMEN)
HE = frozenset(MEN)


def is_she(name):
    """1 where a given name takes "she", 0 where "he"; invented names by their ending."""
    return int(name in SHE or (name not in HE and name[-1] in "aei"))


SURNAMES = words("""
Adams Ahmed Ali Allen Andersen Bach Baker Barnes Becker Bell Berg Bianchi Brown Carter Castro Chen Clark Cohen Cole
Costa Cruz Dahl Davis Diaz Dubois Evans Fischer Fletcher Flores Foster Garcia Gomez Grant Gray Green Gupta Hall Hansen
Harris Hill Hoffman Holm Hughes Ito Ivanov Jackson Jansen Johnson Jones Kaur Keller Khan King Klein Kovacs Kumar Larsen
Lee Lewis Lin Lopez Lund Marino Martin Mason Mendez Meyer Miller Moore Moreno Mori Morris Murphy Nakamura Nguyen Novak
Okafor Olsen Ortiz Park Patel Perez Petrov Price Quinn Ramos Reed Reyes Rivera Rossi Russo Sato Schmidt Silva Singh
Smith Stone Suzuki Tanaka Taylor Torres Turner Vargas Vega Wagner Walker Wang Ward Weber White Wilson Wolf Wood Wright
Yamada Young Zhang
""")
NAME_ENDS = ["", "", "", "son", "sen", "man", "er", "ton", "ova", "ez", "ini", "berg", "ley"]
CITIES = phrases("""
Accra, Algiers, Amsterdam, Athens, Austin, Bangkok, Barcelona, Beijing, Bergen, Berlin, Bern, Bogota, Boston, Bristol,
Brussels, Budapest, Cairo, Cape Town, Chicago, Copenhagen, Dakar, Delhi, Denver, Dublin, Florence, Geneva, Glasgow,
Hamburg, Hanoi, Havana, Helsinki, Hong Kong, Istanbul, Jakarta, Kyoto, La Paz, Lagos, Leeds, Lima, Lisbon, London, Lyon,
Madrid, Manila, Marseille, Melbourne, Mexico City, Milan, Montreal, Moscow, Mumbai, Munich, Nairobi, Naples, New York,
Nice, Osaka, Oslo, Ottawa, Paris, Porto, Prague, Quito, Reykjavik, Riga, Rome, Rotterdam, San Diego, Santiago, Seattle,
Seoul, Seville, Shanghai, Singapore, Sofia, Stockholm, Sydney, Taipei, Tallinn, Tokyo, Toronto, Tunis, Turin, Valencia,
Vancouver, Venice, Vienna, Warsaw, Zagreb, Zurich
""")
COUNTRIES = phrases("""
Argentina, Australia, Austria, Belgium, Bolivia, Brazil, Canada, Chile, China, Colombia, Croatia, Cuba, Denmark, Ecuador,
Egypt, Estonia, Finland, France, Germany, Ghana, Greece, Hungary, Iceland, India, Indonesia, Ireland, Italy, Japan,
Jordan, Kenya, Latvia, Mexico, Morocco, Nepal, New Zealand, Nigeria, Norway, Peru, Poland, Portugal, Romania, Senegal,
Slovenia, South Korea, Spain, Sweden, Thailand, Tunisia, Turkey, Uganda, Ukraine, Uruguay, Vietnam, Zambia
""")
TOWN_ENDS = ["", "", "", "ville", "ton", "burg", "ford", "haven", "mouth", "stead", "by", "dale", "field", "port", "wick"]
TOWN_STARTS = ["Port", "New", "North", "South", "Lake", "Saint", "East", "West", "Upper", "Old"]
FIRM_ENDS = phrases("Ltd, Labs, Works, Systems, Group, Motors, Foods, Energy, Robotics, Press, Industries, Partners, Software, Books, Health")
MODEL_STEMS = phrases("model, llama, mistral, qwen, gemma, phi, tiny, story, coder, assistant, my-model, test")

ANIMALS = phrases("""
fox, bear, rabbit, owl, mouse, hedgehog, squirrel, wolf, deer, frog, turtle, duck, goose, cat, dog, horse, donkey, goat,
sheep, cow, pig, hen, sparrow, crow, raven, eagle, swan, penguin, seal, whale, dolphin, otter, beaver, badger, mole, bat,
lion, tiger, elephant, giraffe, zebra, monkey, hippo, rhino, camel, kangaroo, koala, panda, snail, bee, ant, butterfly,
spider, cricket, ladybug, lizard, snake, crocodile, parrot, peacock, flamingo, octopus, crab, lobster, fish, shark,
seahorse, starfish, dragon, unicorn, llama, moose, raccoon, skunk, weasel, lynx, puppy, kitten, pony, lamb
""")
ROLES = phrases("""
girl, boy, baker, farmer, sailor, painter, gardener, king, queen, knight, princess, prince, wizard, witch, teacher, doctor,
pilot, fisherman, shepherd, tailor, carpenter, clockmaker, librarian, musician, postman, scientist, inventor, astronaut,
robot, pirate, explorer, giant, ghost, fairy, cook, miller, blacksmith, dancer, detective, nurse, student, grandmother,
grandfather, potter, captain, poet, firefighter, lighthouse keeper, snowman, scarecrow
""")
THINGS = phrases("""
teapot, lantern, clock, kite, boat, train, cloud, star, tree, river, stone, lamp, umbrella, violin, drum, pencil, mirror,
broom, windmill, snowflake, leaf, balloon, bicycle, tractor, bell, candle, key, book, hat, shoe
""")
NOUNS = phrases("""
river, garden, mountain, bridge, clock, window, letter, storm, island, forest, shadow, mirror, castle, road, harbor, lamp,
stone, song, winter, tower, train, secret, field, bird, door, dream, fire, flower, ghost, journey, key, king, lake, market,
moon, ocean, orchard, path, queen, rain, sailor, school, ship, sky, snow, star, stranger, summer, valley, voice, wall, wind
""")
ADJECTIVES = phrases("""
quiet, golden, silent, broken, hidden, lost, distant, silver, burning, frozen, secret, bright, empty, gentle, hollow, last,
little, long, lonely, old, red, blue, green, white, black, narrow, wild, winding, strange, sleeping
""")
COLORS = phrases("red, blue, green, yellow, black, white, purple, orange, brown, gray, pink, silver, golden, turquoise")
SEASONS = ["spring", "summer", "autumn", "winter"]
MONTHS = words("January February March April May June July August September October November December")
DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
FOODS = phrases("""
soup, bread, apple pie, rice, pasta, curry, pancakes, salad, cheese, honey cake, stew, dumplings, noodles, fish, tacos,
waffles, roast chicken, mushrooms, plum cake, porridge, tomato soup, lemon tart, chocolate, pizza, beans, ice cream
""")
JOBS = phrases("""
teacher, nurse, engineer, baker, carpenter, doctor, pilot, chef, lawyer, painter, farmer, librarian, journalist, dentist,
plumber, architect, musician, translator, photographer, biologist, driver, tailor, gardener, accountant, programmer,
electrician, judge, sculptor, midwife, geologist, waiter, actor, firefighter, mechanic, poet, surgeon, optician
""")
HOBBIES = phrases("""
chess, painting, swimming, hiking, gardening, fishing, cooking, photography, dancing, sailing, knitting, cycling, reading,
skiing, climbing, running, pottery, singing, bird watching, surfing, archery, baking, tennis, yoga, origami, stargazing
""")
INSTRUMENTS = phrases("piano, violin, guitar, flute, cello, drums, trumpet, harp, clarinet, accordion, oboe, banjo, saxophone")
LANGUAGES = phrases("""
English, French, Spanish, German, Italian, Portuguese, Dutch, Danish, Swedish, Polish, Czech, Greek, Turkish, Arabic, Hindi,
Japanese, Korean, Swahili, Finnish, Latin
""")
ITEMS = phrases("""
apples, pens, books, cups, chairs, lamps, eggs, stamps, tickets, shirts, coins, oranges, pencils, candles, plates, stickers,
marbles, cookies, bottles, boxes, balloons, cards, seeds, buttons, bricks, tiles, keys, spoons, flowers, notebooks
""")
MATERIALS = phrases("oak, steel, glass, granite, bamboo, leather, copper, cotton, marble, clay, brass, wool, plastic, silk")
WEATHER = phrases("sunny, rainy, cloudy, windy, foggy, snowy, stormy, clear, misty, icy")
UNITS = [("miles", "kilometers"), ("kilometers", "miles"), ("pounds", "kilograms"), ("kilograms", "pounds"),
         ("feet", "meters"), ("meters", "feet"), ("inches", "centimeters"), ("liters", "gallons"), ("gallons", "liters"),
         ("celsius", "fahrenheit"), ("fahrenheit", "celsius"), ("hours", "minutes"), ("ounces", "grams")]
CURRENCIES = words("USD EUR GBP JPY CHF SEK NOK DKK CAD AUD INR BRL MXN CNY KRW PLN CZK")
CAPITALS = dict(p.split(":") for p in phrases("""
France:Paris, Germany:Berlin, Italy:Rome, Spain:Madrid, Portugal:Lisbon, England:London, Ireland:Dublin, Norway:Oslo,
Sweden:Stockholm, Denmark:Copenhagen, Finland:Helsinki, Iceland:Reykjavik, Poland:Warsaw, Austria:Vienna,
Switzerland:Bern, Belgium:Brussels, Greece:Athens, Turkey:Ankara, Egypt:Cairo, Kenya:Nairobi, Japan:Tokyo, China:Beijing,
India:New Delhi, Thailand:Bangkok, Australia:Canberra, Canada:Ottawa, Mexico:Mexico City, Brazil:Brasilia,
Argentina:Buenos Aires, Peru:Lima, Chile:Santiago, Cuba:Havana, Russia:Moscow, Hungary:Budapest, South Korea:Seoul,
the Netherlands:Amsterdam, the United States:Washington D.C., the United Kingdom:London, Czechia:Prague, Ukraine:Kyiv
"""))
