"""Scenes without people: food, things on tables, hands, close-ups."""

SCENES = """
== food 900
*3 a plate of [food|pasta|spaghetti|rice and vegetables|chicken and rice|eggs and toast|meat and potatoes|fish and chips|salad|cookies|fruit|pancakes|a sandwich and fries|sushi|broccoli and carrots|bacon and eggs|noodles] [on a table|on a wooden table|next to a glass of water|with a fork|on a white tablecloth|with a knife and fork|next to a cup of coffee|at a restaurant|]
*2 a [pizza|large pizza|sandwich|salad|hamburger|hot dog|chocolate cake|birthday cake|slice of pizza|slice of cake|donut|croissant|omelette|pie|bagel|muffin|steak] on [a plate|a wooden table|a white plate|a table|a tray|a blue plate|a checked tablecloth]
a {cheese|vegetable|large|freshly baked|} pizza [with tomatoes|with mushrooms and cheese|with olives|cut into slices|in a box|on a pan|on a wooden board|coming out of an oven|with basil leaves]
a [sandwich|hot dog|hamburger] with [lettuce and tomato|cheese|mustard|ham and cheese|french fries|meat and vegetables|egg and bacon|pickles] [on a plate|in a paper wrapper|on a table|next to a drink|]
*2 a bowl of [soup|salad|fruit|cereal|rice|noodles|ice cream|strawberries|apples|oranges|vegetables|popcorn|pasta|yogurt with berries|tomato soup|oatmeal] [on a table|next to a spoon|with a spoon in it|on a kitchen counter|on a wooden table|next to a glass of milk|on a tray|]
*2 a {chocolate|white|birthday|wedding|large|} cake with [candles|strawberries on top|pink flowers|white icing|chocolate icing|a slice cut out|two layers|blue letters on it|fruit on it|a number on it] {on a table|on a plate|}
[a cup of coffee|a glass of wine|a cup of tea|a glass of beer|a glass of water|a glass of orange juice|a bottle of wine|a bottle of water|a mug of hot chocolate|a pot of tea|a can of soda|a glass of milk|two glasses of wine] [on a table|on a wooden table|next to a book|next to a plate|on a saucer|on a kitchen counter|by a window|next to a laptop|on a tray|on a napkin|next to a newspaper|on a balcony table]
[apples|bananas|oranges|a bunch of bananas|green apples|three oranges|lemons|two bananas|a sliced apple|a pineapple|a cut watermelon|grapes|pears|carrots|tomatoes|eggs|a loaf of bread|cheese and crackers]#p [in a bowl|on a table|on a plate|on a kitchen counter|in a basket|on a wooden board|on a white cloth]
[a table|a long table|a wooden table|a picnic table|a restaurant table|a round table] [set for dinner|with plates of food|covered with dishes|with a pizza and drinks|with food and wine glasses|with breakfast on it|with a birthday cake|with a bowl of salad|with empty plates|with bowls and spoons|full of desserts]
[vegetables|fresh vegetables|chopped vegetables|sliced fruit|carrots and onions|meat and vegetables|broccoli|mushrooms|peppers and onions|potatoes]#p [on a cutting board|in a pan|in a bowl|on a grill|in a pot|on a plate|in a wooden bowl|on a baking tray]
[donuts|cookies|pastries|cupcakes|muffins|bread rolls|chocolate donuts|croissants]#p [on a tray|in a box|on a plate|in a glass case|on a baking sheet|in a basket|on a rack|on a table]
[meat|hot dogs|sausages|chicken|fish|hamburgers|corn]#a [cooking on a grill|on a barbecue|on a smoking grill|cooking in a pan]
<adult> {<cw>||} ^[cook|grill|turn] [meat|hot dogs|hamburgers|chicken|sausages|fish|corn] on a [grill|barbecue|smoking grill] [in a yard|in the backyard|at a party|on a beach|]
<adult> {<cw>||} ^[eat|bite into|hold] [a slice of pizza|a sandwich|a hot dog|a hamburger|a donut|an ice cream cone|a banana|an apple|a piece of cake] [at a table|on the street|in a restaurant|with both hands|on a bench|]
<adult> {<cw>||} ^eat [noodles with chopsticks|a bowl of soup|a salad|spaghetti|breakfast|a plate of food] [at a table|in a restaurant|in a kitchen|on a couch|]
<kid> ^eat [a slice of pizza|spaghetti|a sandwich|a hot dog|a donut|a banana|a piece of cake|noodles|cereal|soup|pancakes] [at a table|in a kitchen|with a fork|in a high chair|at a restaurant|with $his hands]
<adult> ^[cut|serve|decorate|slice] a [cake|birthday cake|pie|wedding cake|chocolate cake] [in a kitchen|at a party|with a knife|at a table|]
<adult> ^carry a [birthday cake|plate of food|tray of drinks|pizza|pot of soup|stack of plates] [to a table|in a kitchen|through a restaurant|at a party]
<people> ^[eat|share|cut|make] [pizza|a pizza|a birthday cake|a meal|sandwiches|a cake] [at a table|at a party|in a restaurant|in a kitchen|]

== objects 900
*2 [a vase of flowers|a vase of red roses|a vase with yellow flowers|a glass vase with tulips|a bouquet of flowers|a single rose in a vase|white flowers in a vase|a vase of pink flowers] on [a table|a window sill|a wooden table|a kitchen table|a shelf|a piano|a desk|a white tablecloth]
*2 [a teddy bear|two teddy bears|a stuffed animal|a stuffed rabbit|a doll|a brown teddy bear|a large teddy bear|a toy robot] [sitting on a bed|on a chair|on a shelf|sitting on a couch|in a child's arms|on a bench|wearing a hat|next to a book|on the floor|in a shop window]
[a book|an open book|a stack of books|a pair of glasses|a set of keys|a wallet|a phone|a remote control|a pair of gloves|a hat|a camera|a watch|an umbrella|a purse|a newspaper|a cup|a pen|a candle|a pair of headphones|a deck of cards|a chess board|a flashlight|a box of matches|a pack of batteries] on [a table|a wooden table|a couch|a bed|a chair|a desk|a white table|the arm of a chair|a bench]
[a white cane|a walking stick|an umbrella|a guitar|a broom|a bicycle|a ladder|a surfboard|a mop|a skateboard|a pair of crutches|a vacuum cleaner] leaning against [a wall|a chair|a door|a white wall|a brick wall|a table|a fence|a couch]
[a pair of glasses|a phone|a set of keys|a cup|a remote control|a wallet|a hearing aid|a white cane|a spoon|a bottle of pills|a pair of scissors] [next to|beside|behind] [a book|a lamp|a bowl|a laptop|a chair|a newspaper|a box|a pillow]
[a cup|a plate|a glass|a knife|a bowl|a fork and a knife|a spoon|a phone|a bottle] near the edge of [a table|a counter|a desk|a shelf|a wooden table]
a [cardboard|wooden|large|small|metal|plastic|white|open] box [on a table|full of toys|on the floor|full of books|in front of a door|with a label on it|full of fruit|on a shelf|next to a chair|with a cat in it|full of tools]
*2 [a close up of|a close up view of] [a red flower|a yellow flower|a pink rose|a green leaf|a person's hand|a dog's paw|a bee on a flower|a computer keyboard|a slice of pizza|a clock face|a bunch of bananas|an old camera|a plate of food|a bird's head|a guitar|a pair of shoes|a book cover|a bottle label|a medicine box|a chocolate cake|a door handle|a tree trunk|a coin in a hand|a teddy bear|a wooden floor|a bicycle wheel|a glass of wine|a traffic light|an eye|a stuffed toy|the buttons of a remote|a can of beans|a washing label on a shirt]
a [blue|red|green|yellow|white|black|brown|striped] [shirt|sweater|jacket|coat|towel|scarf] [on a bed|on a hanger|on a chair|folded on a table|on a hook|on the floor|hanging on a door]
[shirts|clothes|towels|socks|sheets|white sheets]#p ^hang on a [line in a garden|clothes line|line between two houses|rack in a room|line on a balcony]
[two shirts|two ties|three dresses|a row of ties|dark trousers|a red and a blue shirt] [on hangers in a wardrobe|on a bed|on a chair|hanging on a rack]
[a pair of socks|two socks in different colours|a stack of folded clothes|three socks|a pair of gloves] [on a bed|in a drawer|on a chair|on the floor]
a [medicine bottle|pill bottle|box of tablets|can of soup|milk carton|jar of jam|box of tea|bag of rice|tin of beans|bottle of juice|packet of biscuits|bottle of shampoo|carton of juice] [on a kitchen counter|on a table|with a white label|in a cupboard|on a shelf|next to a cup|in a person's hand|in a fridge door]
[a blank wall|a white wall|a brick wall] [with a shadow on it|with a window|with a lamp|seen from close up|with a door on the left|with a picture in a frame]
[a wooden floor|a tiled floor|a grey carpet|a patterned rug] [with a shadow on it|seen from close up|with a small stain|with a chair leg|with a pair of shoes|in an empty room]
a [blurry|dark|blurred|tilted] [picture|photo|view] of [a room|a table|a floor|a hand|a street|a person|a ceiling|a kitchen|a doorway|a dog|a computer screen|the ground]
a [lamp|floor lamp|small lamp|desk lamp] [in the corner of a room|next to a couch|on a table|beside a bed|turned on at night|on a desk|next to an armchair]
[a guitar|an electric guitar|a violin|a drum set|a microphone|a cello] [in the corner of a room|on a stage|on a stand|against a wall|in a living room]
[an old radio|a record player|a small piano|a typewriter|a sewing machine] [on a table|in a living room|next to a window|in the corner of a room|in a shop]
[balloons|colourful balloons|red balloons|a bunch of balloons] [tied to a chair|floating in a room|at a party|in the sky|tied to a fence|held by a child]
[flowers|red flowers|yellow flowers|pink tulips|white flowers|purple flowers|sunflowers]#p [in a garden|in a pot|growing beside a path|in a field|along a fence|in a window box|next to a stone wall|in front of a house]

== hands 600
*3 a hand ^hold [a cup of coffee|an apple|a banana|a donut|a set of keys|a pen|a small bird|a flower|a glass of wine|a coin|a pair of scissors|a toothbrush|a remote control|a sandwich|a hot dog|a book|a ticket|a phone|a medicine bottle|a can|a leaf|a spoon|an egg|a credit card|a piece of paper|a box of pills|a shell|a slice of pizza] [over a table|in front of a window|in a kitchen|in front of a white wall|in a dark room|above a wooden floor|close to the camera|]
*2 <adult> {<cw>||} ^hold [a cup of coffee|a glass of wine|a bottle of beer|a bouquet of flowers|a tray of food|a newspaper|a baby|a remote control|a plate of food|a laptop|a box|a candle|a toothbrush|a teddy bear|a banana|a puppy|a cat|a birthday cake|a book] {in a room|in a kitchen|in front of a window|at a table||}
*2 <adult> {<cw>||} ^hold [a camera|<umbrella>|a bouquet of flowers|a trophy|a guitar|a sign|a flag|a map|a rope|a shovel|a snake|a puppy|a microphone|a bag of groceries|a large fish|a bunch of balloons|a baby|a cup of coffee] {outside|in front of a house|on a street|in a park|in front of a crowd||}
<kid> {<kw>||} ^hold [a book|a cup|a banana|a toothbrush|a camera|a phone|a plate|a puppy|a balloon|a remote control|a microphone|a glass of milk|a large ball|a kitten|a spoon] {in a kitchen|at a table|in a room|on a couch||}
<kid> {<kw>||} ^hold [<umbrella>|a bat|a stick|a large leaf|a frog|a fish|a basket|a bucket|a kite|a puppy|a balloon|a bird|a sparkler|a shell|a rope|a skateboard|a flower] {outside|in a yard|on a beach|by a lake|in a park||}
<adult> {<cw>||} ^[look at|use|hold|type on|take a picture with] <phone> [at a table|on a bench|on a train|in a dark room|in a crowd|on the street|in a cafe|on a couch|at a bus stop|in a waiting room]
<people> ^[look at|hold|use] their phones [at a table|on a bench|on a train|in a dark room|on the street|in a cafe|in a waiting room|on a couch|at a concert]
<adult> ^[write|draw|sign a paper|knit|count coins|peel an orange|wrap a present|open a letter|open a parcel|fold a letter|open a bottle] [at a table|at a desk|in a kitchen|by a window|]
[two people|two men|a man and a woman|two women]#p ^[shake hands over a desk|hold hands across a table|clink glasses at a party|raise their glasses at a table|shake hands in an office|give each other a high five|shake hands in front of a door|shake hands on a stage]
a [person|man|woman|child] [holding a small turtle|holding a red umbrella over a dog|holding two ice cream cones|holding a large camera|holding a piece of broken glass|holding a glass jar|holding out a hand|holding a white cup|holding a paper bag|holding up a tee shirt|holding a pizza box|holding a tablet] [in a kitchen|outside|in front of a window|in a garden|in a shop|]

== sights_general 500
a [red|blue|yellow|green|old|vintage|rusty|white|black|silver] [car|truck|pickup truck|tractor|van|motorcycle|jeep] [on display|parked in a field|parked under a tree|at a car show|in a museum|covered with snow|in front of a barn|stuck in the mud|on a beach]
[a digger|a crane|a bulldozer|a forklift|a cement truck]#a ^[work|be parked] [at a building site|on a road|next to a building|beside a pile of dirt|behind a fence]
[a tractor|a red tractor|a green tractor]#a ^[work in a field|drive down a road|be parked on a farm|pull a trailer|plough a field|be parked in the snow]
<man> ^drive [a tractor in a field|a truck down a road|a horse and cart through a town|a golf cart|a forklift in a warehouse|a bus through a city|a boat on a lake|a car with a dog beside him|an old car in a parade]
[a boy and a girl|two boys|two children|a man and a boy]#p ^ride [on a tractor|in a wagon|in a small train|in a cart|in a toy car|in the back of a truck] [on a farm|through a park|down a road|at a fair|]
a [barn|red barn|lighthouse|windmill|castle|cabin|wooden cabin|tower|ruined castle] [in a field|on a hill|near the sea|in the snow|behind a fence|by a lake|surrounded by trees|under a cloudy sky]
[umbrellas|colourful umbrellas|beach umbrellas|striped umbrellas]#p [on a beach|hanging over a street|above tables at a cafe|in the sand|beside a pool]
[surfboards|canoes|paddles]#p [leaning against a wall|lined up on the beach|on a rack|on top of a car|lying on the sand]
[skis|snowboards|sleds]#p [leaning against a wall|stuck in the snow|on a rack|on top of a car|outside a lodge]
a [mirror|round mirror|large mirror] [on a wall|above a fireplace|above a sink|reflecting a room|leaning against a wall|on a bedroom wall|reflecting a window]
the reflection of [a man|a woman|a photographer|a child|a dog] in [a mirror|a window|a puddle|a shop window]
the reflection of [a building|trees|a bridge|a boat|mountains|clouds|a tower] in [the water|a lake|a river|a puddle|a pond]
a [view|photo|picture] [of a harbour from a hill|of a city from an airplane window|of a beach from a balcony|of a street from a window|of a garden through a door|of a mountain from a road|of a room from a doorway|of a kitchen from a hallway|of a park from above|of a road from inside a car|of a river from a bridge]
[two|three|several] [chairs|beach chairs|deck chairs|wooden chairs|benches] [on a beach|on a porch|under an umbrella|facing the ocean|by a pool|on a lawn|around a table|on a wooden deck]
a [toy|model|wooden|miniature] [train|boat|plane|car|house] [on a table|on a shelf|on the carpet|in a child's hand|in a shop window]
[leaves|fallen leaves|red and yellow leaves|petals]#p [on the ground|on a path|under a tree|on a wet street|on the steps|floating in a puddle]

== misc_everyday 300
[a glass|a cup|a plate|a wine glass|a bowl] [broken on the floor|knocked over on a table|left on a chair|at the edge of a counter|half full of milk|full of water next to a bed]
[spilled milk|spilled coffee|spilled water|a puddle of water|crumbs|broken glass] on [a kitchen floor|a tiled floor|a table|a carpet|a wooden floor|a white counter]
[a robot vacuum cleaner|a vacuum cleaner|a fan|a heater|a clothes rack|an ironing board|a child's chair|a pushchair|a suitcase] [in the middle of a room|next to a couch|in a hallway|in front of a door|on a carpet|by a window]
a [guide dog harness|white cane|hearing aid|wheelchair|walking frame|pair of dark glasses|magnifying glass|braille book|talking watch|pair of crutches] [on a table|next to a chair|beside a bed|by the front door|on a couch|in a hallway]
a [man|woman|person|delivery man|child|neighbour|postman] [standing at the front door|walking up a driveway|ringing a doorbell|leaving a parcel on a porch|waiting on a porch|carrying a box to a door|at an open gate|walking past a garden fence]
an empty [street|driveway|car park|yard|playground|road] [at night|in the rain|in the morning|covered with snow|seen from above|with a street lamp on]
an empty [hallway|garage|kitchen|corridor|stairwell|dining room] [at night|with a light on|in the morning|with the door open|seen from a doorway]
[a cat|a dog|a fox|a raccoon|a squirrel|a hedgehog] [on a porch at night|in a driveway|next to a bin|at a back door|walking across a lawn|in front of a garage]
[a baby sleeping in a crib|a baby standing in a crib|a child asleep in bed|an elderly man in an armchair|an elderly woman in a chair|a man asleep on a couch] [next to a lamp|in a dark room|with a blanket|seen from above|with a toy|in front of a television]
[a washing line|a garden hose|a lawn mower|a watering can|a wheelbarrow|garden tools|a barbecue|a swing set|a trampoline] [in a back garden|next to a shed|on a lawn|beside a path|against a fence|in a yard]
[tickets|coins|medicine bottles|letters|keys|batteries|jars|spice jars|crayons|pencils|paper clips|buttons]#p [on a table|in a drawer|in a small box|on a wooden desk|on a shelf|in a bowl|in a person's hand]
"""
