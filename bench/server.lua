-- wrk asks GET /?q=TEXT with one text after the other. About 15 tokens each, special ones included.
local texts = {
  "How big is London compared with the other large cities of Europe?",
  "What is the best way to learn a new language as a busy adult?",
  "The train to the airport leaves every twenty minutes from platform nine.",
  "Which vegetables can be planted in late autumn in a cold climate?",
  "How do I reset the password of my account without the old phone?",
  "Why does bread dough need to rest before it goes into the oven?",
  "A short history of the printing press and of the first newspapers.",
  "How much water should a person drink on a hot summer day?",
  "The committee will publish its report on housing early next year.",
  "What are the symptoms of a vitamin D deficiency in small children?",
  "Steps for changing a flat bicycle tyre on the side of the road.",
  "When was the first bridge over the river built, and by whom?",
  "How can a small company protect its customers' data from theft?",
  "The recipe calls for two eggs, a cup of sugar and some butter.",
  "Is it cheaper to repair an old washing machine or to buy one?",
  "What does the law say about working more than ten hours a day?",
  "Birds that spend the winter in Africa return to the north in April.",
  "How long does it take to fly from Tokyo to San Francisco?",
  "A beginner's guide to growing tomatoes on a sunny balcony.",
  "Which instruments belong to the string section of an orchestra?",
  "The museum is closed on Mondays and on the first of January.",
  "How do vaccines teach the immune system to recognise a virus?",
  "Where can I find the opening hours of the public library?",
  "The price of copper rose by three per cent in a single week.",
  "What is the difference between a lake, a pond and a lagoon?",
  "How to write a letter of complaint that will be answered.",
  "The old lighthouse was turned into a small hotel with six rooms.",
  "Why do cats purr when they are happy, and also when they are ill?",
  "Can I take a laptop and a tablet through security in one bag?",
  "The storm cut off the village from electricity for four days.",
  "What should be considered before adopting a dog from a shelter?",
  "How does a heat pump warm a house when it is freezing outside?",
}

local paths, at = {}, 0
for number, text in ipairs(texts) do
  paths[number] = "/?q=" .. text:gsub("[^%w]", function(character)
    return string.format("%%%02X", character:byte())
  end)
end

function request()
  at = at % #paths + 1
  return wrk.format("GET", paths[at])
end
