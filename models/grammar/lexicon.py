"""The lexicon: semantic classes, in the notation of engine.py.

Classes are narrow on purpose: a class holds what can stand in the same place
of the same photograph (what a child wears in the snow, what a dog carries in
its mouth), so the classes themselves are the selectional constraints.
Suffixes .m .f .n .p .a make a class agree with the subject's feature.
"""

LEXICON = """
// ---- colours and patterns
col: *5 red|*5 blue|*4 black|*4 white|*3 green|*3 yellow|*2 pink|*2 orange|purple|grey|brown|beige
bright: *3 red|*3 blue|*2 green|*3 yellow|*2 pink|*2 orange|purple
dark: black|dark|grey|brown|blue
furcol: *4 brown|*4 black|*3 white|*2 black and white|*2 brown and white|tan|golden|grey
paint: *3 red|*3 blue|*3 white|*2 green|yellow|black|brown|grey

// ---- people: one
man: *5 a man#m|*2 a young man#m|an older man#m|an elderly man#m|a bearded man#m|a bald man#m|a guy#m
woman: *6 a woman#f|*3 a young woman#f|an older woman#f|an elderly woman#f|a blonde woman#f|a lady#f
boy: *4 a boy#m|*4 a little boy#m|*5 a young boy#m|a small boy#m|a blond boy#m
girl: *4 a girl#f|*5 a little girl#f|*4 a young girl#f|a small girl#f|a blonde girl#f
child: *3 a child#n|*2 a young child#n|*2 a small child#n|a toddler#n|a little kid#n
baby: *5 a baby#n|a baby boy#m|a baby girl#f|a toddler#n|a smiling baby#n
person: *4 a person#n|*2 someone#n
plainman: *4 a man#m|*2 a young man#m|an older man#m|an old man#m|a guy#m
plainwoman: *5 a woman#f|*2 a young woman#f|an older woman#f|a lady#f
// for sport and the like: nobody elderly on a surfboard
fitman: *4 a man#m|*3 a young man#m|a guy#m|a bearded man#m
fitwoman: *4 a woman#f|*3 a young woman#f|a blonde woman#f
fit: *7 <fitman>|*5 <fitwoman>|*1 <person>
teen: a teenage boy#m|a teenage girl#f|a teenager#n|a young man#m|a young woman#f
adult: *8 <man>|*8 <woman>|*1 <person>
kid: *5 <boy>|*5 <girl>|*3 <child>
anyone: *3 <man>|*3 <woman>|*2 <boy>|*2 <girl>|<person>
// ---- people: several
men: *5 two men#p|three men#p|*2 two young men#p|several men#p|a group of men#p|four men#p|two older men#p
women: *5 two women#p|*2 three women#p|*2 two young women#p|a group of women#p|several women#p
boys: *5 two boys#p|*2 three boys#p|*2 two young boys#p|two little boys#p|a group of boys#p|several boys#p
girls: *5 two girls#p|*2 three girls#p|*2 two little girls#p|two young girls#p|a group of girls#p|four girls#p
kids: *4 two children#p|*3 three children#p|a group of children#p|*2 several children#p|four children#p|two kids#p|three kids#p|children#p|a boy and a girl#p|two young children#p
people: *4 two people#p|*3 three people#p|*2 several people#p|*3 a group of people#p|people#p|four people#p|a man and a woman#p|*2 some people#p|many people#p
folk: *2 a man and a woman#p|a couple#g|a young couple#g|an older couple#g|two friends#p|two people#p
friends: a group of friends#p|three friends#p|two friends#p|a group of young people#p|several teenagers#p|a group of teenagers#p
family: a family#g|a mother and her child#p|a father and his son#p|a mother and her daughter#p|a man and a little girl#p|a woman and a little boy#p|parents and their children#p
crowd: *3 a crowd of people#g|*2 a large crowd#g|*2 a large group of people#p|many people#p|a crowd#g

// ---- clothing: casual
top: *5 shirt|*3 jacket|*2 sweater|*2 coat|t-shirt|sweatshirt|tank top|hoodie
hat: *3 hat|*2 cap|baseball cap|*1 straw hat|knit hat
cw: *3 in a <col> <top>|wearing a <col> <hat>|wearing <col> shorts
cw.m: *6 in a <col> <top>|*2 wearing a <col> shirt|*2 in a <col> <hat>|in jeans and a <col> shirt|in a striped shirt|in a plaid shirt|*2 wearing sunglasses|with glasses|in a dark suit|in a <col> vest|wearing a backpack|in <col> pants|in a denim jacket|in a camouflage jacket|in a checkered shirt
cw.f: *5 in a <col> <top>|*4 in a <col> dress|in a striped shirt|*2 wearing a <col> <hat>|with long hair|with dark hair|wearing sunglasses|in a <col> skirt|in jeans and a <col> top|with curly hair|wearing a scarf|in <col> pants|in a flowered dress|in a denim jacket|wearing a headscarf|in high boots
cw.p: in <col> shirts|wearing hats|in jackets|in jeans|wearing sunglasses|in bright clothes
// out of doors, in motion: no suits, no dresses
ow: *3 in a <col> [shirt|jacket|top]|wearing a <col> hat|wearing shorts
ow.m: *5 in a <col> [shirt|jacket|jacket|t-shirt|sweatshirt]|wearing a <col> cap|in jeans and a <col> shirt|in a striped shirt|wearing sunglasses|in <col> shorts
ow.f: *5 in a <col> [shirt|jacket|top|sweater]|wearing a <col> hat|in <col> shorts|wearing sunglasses|in jeans
ow.p: in <col> shirts|in <col> jackets|wearing hats|in shorts
// children at play
kw: in a <col> <top>
kw.m: *6 in a <col> [shirt|shirt|shirt|t-shirt|sweatshirt|jacket]|in a striped shirt|wearing a <col> cap|*2 in <col> shorts|in jeans and a <col> shirt|in <col> pants|in overalls
kw.f: *4 in a <col> [shirt|sweater|jacket]|*4 in a <col> dress|in a striped shirt|wearing a <col> hat|with pigtails|in a <col> skirt|with curly hair|in <col> pants|in a flowered dress|in <col> sandals|in a polka dot dress
kw.p: in <col> shirts|in bright clothes|in <col> shorts
// winter
ww: *4 in a <col> [jacket|jacket|coat|snowsuit]|wearing a winter hat|in winter clothes|in a warm coat|wearing a <col> scarf
ww.p: in winter clothes|in warm coats|in <col> jackets|wearing winter hats
// by the water
sw: in swimming trunks|in a <col> swimsuit|wearing goggles
sw.m: *3 in <col> swim trunks|*2 in <col> shorts|without a shirt|wearing goggles|in bathing trunks
sw.f: *3 in a <col> [swimsuit|bathing suit|bikini]|wearing goggles|in a <col> hat
sw.p: in bathing suits|in swimsuits|wearing goggles
// wheels
bw: *3 in a <col> [shirt|jacket]|*3 wearing a <col> helmet|wearing a helmet and gloves
bw.p: wearing helmets|in <col> jerseys|in bright jerseys
// team sports
tw: *4 in a <col> [uniform|jersey|shirt]|in a <col> and white uniform|wearing a helmet
tw.p: in <col> uniforms|in <col> jerseys

// ---- faces and bearing
mood: smiling|laughing|looking at the camera|looking away|making a funny face|with $his eyes closed

// ---- places
field: *4 a grassy field|*4 a green field|a field|an open field|a field of tall grass|*2 a large field|a dry field|a field of yellow flowers
ingrass: *5 in the grass|*2 on the grass|*2 in a grassy field|in a green field|in the tall grass|in the park|on a lawn|in a yard|in the backyard|on a grassy hill
insnow: *4 in the snow|*2 in deep snow|on a snowy field|*2 in a snowy field|on the snow covered ground|in a snowy yard
onbeach: *5 on the beach|*3 on a sandy beach|*2 on the sand|near the ocean|*2 at the beach|by the sea|on the shore
street: *4 a street|*3 a city street|*3 a busy street|the street|a narrow street|a quiet street|a wet street
walk: *3 the sidewalk|*3 the pavement|*2 a sidewalk|a city sidewalk|a brick sidewalk|a busy sidewalk|a wide pavement
road: *3 a road|*2 a dirt road|*2 a country road|a paved road|a winding road|a gravel road|an empty road
woods: *3 the woods|*2 a forest|a wooded area|the forest|a trail in the woods
park: *4 a park|*2 the park|a city park
water: *4 the water|*2 shallow water|a stream|a river|a lake|a pond
yard: *2 a yard|*2 a backyard|a garden|a grassy yard|a fenced yard

// ---- dogs and what belongs to them
size: large|small|big|little
dog: *3 a <furcol> dog#a|*2 a {large|small|big|little|} <furcol> dog#a|*3 a black dog#a|*3 a brown dog#a|*2 a white dog#a|*2 a black and white dog#a|*2 a brown and white dog#a|*2 a dog#a|a {small|young|cute} puppy#a|a small white dog#a|a large brown dog#a|a fluffy [white|brown] dog#a|a shaggy dog#a|a curly haired dog#a|a wet dog#a|a [golden|yellow] retriever#a|a German shepherd#a|a [black|yellow|chocolate] lab#a|a [black|white] poodle#a|a spotted dog#a|a furry [brown|white] dog#a|a light coloured dog#a|a brown doberman#a|a skinny dog#a|a [small|little] terrier#a|a border collie#a|a tan dog#a
dogs: *5 two dogs#p|*2 two brown dogs#p|*2 two black dogs#p|two white dogs#p|*3 three dogs#p|two small dogs#p|two large dogs#p|*2 a black dog and a white dog#p|*2 a brown dog and a black dog#p|a black dog and a brown dog#p|a big dog and a small dog#p|several dogs#p|two puppies#p|a group of dogs#p|four dogs#p
dogtoy: *4 a [tennis|tennis|red|yellow|blue|green|] ball|*3 a stick|*2 a frisbee|a [red|blue|yellow] frisbee|a [large|big|long] stick|a rope toy|*2 a [red|blue|yellow|stuffed|] toy|a bone|a branch|a [green|yellow] tennis ball|a glove|a sock
collar: with a <bright> collar|wearing a <bright> collar|on a leash|on a red leash|wearing a harness|in a <bright> coat

// ---- things in hands
phone: a cell phone|a phone|a mobile phone|a smartphone|a cellphone
drink: *2 a cup of coffee|a glass of wine|a bottle of water|a cup of tea|a drink|a glass of water|a can of soda|a glass of beer|a bottle of beer
snack: *2 a sandwich|a slice of pizza|an ice cream cone|a hot dog|a banana|an apple|a donut|a cookie|a piece of cake|a slice of watermelon
readable: *3 a book|*2 a newspaper|a magazine|a menu|a map|a letter
umbrella: *2 an umbrella|a black umbrella|a red umbrella|a blue umbrella|a colourful umbrella|a yellow umbrella

// ---- vehicles
carcol: *3 red|*2 white|*2 black|*2 blue|silver|yellow|grey|green
car: *3 a <carcol> car#a|a parked car#a|a police car#a|an old car#a|a <carcol> van#a|a <carcol> pickup truck#a|a taxi#a|a sports car#a|a small car#a
truck: *2 a <paint> truck#a|a large truck#a|a fire truck#a|a delivery truck#a|a garbage truck#a|a delivery van#a|a dump truck#a|an ambulance#a|a tow truck#a
bus: *3 a <paint> bus#a|a city bus#a|a double decker bus#a|a red double decker bus#a|a school bus#a|a large bus#a|a tour bus#a
train: *3 a train#a|a passenger train#a|a <paint> train#a|a freight train#a|a red and white train#a|a steam train#a|a commuter train#a|a long train#a|a subway train#a

// ---- furniture, rooms and their parts
woodcol: wooden|white|brown|black|round|small|glass
sofa: *2 a couch|*2 a sofa|a brown couch|a leather couch|a red couch|a grey sofa|a white couch
tabletop: *3 a table|*3 a wooden table|a kitchen table|a dining table|a white table|a glass table|a coffee table|a round table
counter: *2 a kitchen counter|*2 a counter|a white counter|a wooden counter
"""
